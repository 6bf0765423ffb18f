"""The app: stocks, their rankings, and which of its pages are hot."""
