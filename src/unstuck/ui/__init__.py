"""The pages of stored runs, served to a browser on this machine and live while a run grows; needs the extra `ui`."""
