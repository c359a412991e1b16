"""The program that runs in a measuring child process."""
