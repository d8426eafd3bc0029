"""Build the emulated grid and print where it is."""

from tests.emulated.build import build

print(build())
