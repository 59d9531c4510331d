"""Rules about several processes that train one network: what single ones of them do, and whether they agree."""
