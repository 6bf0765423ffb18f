"""What a hot page is: its key, its policy, its bytes."""
