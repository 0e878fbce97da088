"""Pictures of charts, drawn by cairo and made smaller by Pillow."""
