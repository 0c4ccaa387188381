"""`python -m mmsa`."""

from mmsa.cli import main

main()
