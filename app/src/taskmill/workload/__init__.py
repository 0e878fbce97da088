"""What a load's messages call and what is right for each, as a function of the plan and the message's number."""
