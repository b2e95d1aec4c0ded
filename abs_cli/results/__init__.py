"""What `abs eval` leaves behind: result records and files, their tables, and exports."""
