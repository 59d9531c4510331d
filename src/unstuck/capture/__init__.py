"""The only room that touches a live model: it turns torch calls into sites and fills the trace."""
