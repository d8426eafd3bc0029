"""``python -m recsys_fast.cli`` is ``recsys-fast``."""

import sys

from recsys_fast.cli import main

sys.exit(main())
