"""`python -m starttls` is the command `starttls`."""

import sys

from starttls.cli import main

if __name__ == "__main__":
    sys.exit(main())
