"""Any system under any protocol: a program that is called, or a server that is asked."""
