"""`python -m cowfreeze` is the same program as the `cowfreeze` script."""

from __future__ import annotations

import sys

from cowfreeze_command import main

sys.exit(main())
