"""The soak itself is no test; its judgement is tested."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
