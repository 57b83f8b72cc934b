"""What things are: instruments, the tape and its rows, orders and their life, time, progress, errors. No I/O, no venue."""
