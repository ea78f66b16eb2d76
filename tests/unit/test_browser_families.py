"""What the page trains is what `sweep` trains: the compiled module, run without a browser, against PyTorch."""

import pytest
from browser_families import FAMILIES


# one of each kind; tests/browser holds all of them, in Chromium
@pytest.mark.parametrize("name", ["the digits", "gradient descent", "bowl", "several rules", "batch normalization", "batch normalization, MLP", "recurrent"])
def test_agrees_with_sweep(name):
    family = FAMILIES[name]
    package = family.package()
    here = package.run(family.setting | {"seeds": [0, 7]})
    family.compare({quantity: here[quantity] for quantity in package.description["record"]})
