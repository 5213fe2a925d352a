"""`python -m tidewheel`."""

from tidewheel.main import main

main()
