"""`python -m gateway` is `gatehouse`."""

from gateway.cli import main

if __name__ == "__main__":
    main()
