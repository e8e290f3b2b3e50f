"""Who the parts of a mesh are to one another: an authority, short-lived certificates, and what checks them."""
