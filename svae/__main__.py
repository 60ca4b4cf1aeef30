"""`python -m svae`, and `torchrun … -m svae`."""

from svae.cli import main

if __name__ == "__main__":
    main()
