"""`python -m robotrl` is `robotrl`."""

import sys

from robotrl.cli import main

sys.exit(main())
