"""The compiled core. Private; batches are tuples, laid out here and in bindings/convert.cpp."""

__version__: str

# (kind of failure, "SW-Exxxx", message)
type _Failure = tuple[int, str, str]
# (event kind, attempt, step, payload, milliseconds since 1970)
type _Event = tuple[int, int, str, bytes, int]

class Runtime:
    """One engine: its loop thread, its store thread, and the batches between them and Python."""

    @staticmethod
    def open(
        path: str,
        *,
        durable: bool = True,
        lease_ms: int = 30_000,
        ca_bundle: str = "",
        proxy: str = "",
        no_proxy: str = "",
    ) -> Runtime: ...
