"""What is measured beside a run: hosts, systemd units, single tasks, the profile of the client."""
