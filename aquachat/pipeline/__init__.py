"""What the commands of the Pipeline panel do, without the terminal."""
