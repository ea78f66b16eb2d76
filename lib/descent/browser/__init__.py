"""Training in the reader's browser, from the same Python definition as the notebook's.

`compile` turns what a `sweep` trains into a WebAssembly module: `trace` records the library's own
functions as graphs of core ATen operations, `lower` writes them as C around the loops of
`kernels.c`, `package` compiles that and puts it together with the data; `worker.js` runs it.
"""

from descent.browser.lower import Unsupported
from descent.browser.package import Package, compile

__all__ = ["Package", "Unsupported", "compile"]
