"""What a run is: looked at before it begins, driven, and concluded."""
