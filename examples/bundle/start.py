#!/usr/bin/env -S python3 -BIS
"""Start satscore out of the folder that this file lies in, by the Python >= 3.11 that is there.

make_bundle.py copies it to ``bin/satscore``. It is no shell script: a shell changes the environment of the
command (bash counts SHLVL up, dash drops exported functions). ``-BIS``: nothing is written into the container,
and PYTHONHOME, PYTHONPATH and site-packages are not looked at; they stay as they are for the command.

Thousands of ranks start at once from one file system, so all modules come by one open of one file:
``lib/<tag>.zip``, whose entries are stored, not compressed. The standard zipimport opens its file twice for each
module. Another process of satscore, which finds the file through PYTHONPATH, does use zipimport.

It is compiled at every start, hence short; an old Python has to get as far as other_python.py: the syntax is
that of Python 3.6.
"""

import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec

TAG = EXTENSION_SUFFIXES[0][1:-3]  # implementation, version, ABI, machine and libc: cpython-312-aarch64-linux-gnu
ROOT = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))  # noqa: PTH120 - pathlib is slow to import
ARCHIVE = ROOT + "/lib/" + TAG + ".zip"
PYC_HEADER_BYTES = 16  # PEP 552


class Archive:
    """Finds and loads the modules of a zip file whose entries are stored; the file stays open.

    Attributes:
        archive: Path of the file, by the name that zipimport has for it.
    """

    def __init__(self, path: str) -> None:
        from fcntl import F_DUPFD_CLOEXEC, fcntl  # noqa: PLC0415 - not on the way to an error message
        from struct import unpack, unpack_from  # noqa: PLC0415

        self.archive = path
        self._folder = path[:-4] + "/"
        self._places = {}  # name of a module -> name, begin and size of its entry
        with open(path, "rb", 0) as file:  # noqa: PTH123
            # Not where a standard stream is closed, which it is for the command, too.
            self._fd = fcntl(file, F_DUPFD_CLOEXEC, 3)
            # The end record has 22 bytes (no comment), an entry of the directory 46 and its name: APPNOTE 4.3.
            size_bytes, begin = unpack("<II", os.pread(self._fd, 8, file.seek(-22, os.SEEK_END) + 12))
        directory, at = os.pread(self._fd, size_bytes, begin), 0
        while at < size_bytes:
            entry_bytes, name_bytes = unpack_from("<IH", directory, at + 24)
            (begin,) = unpack_from("<I", directory, at + 42)
            name = directory[at + 46 : at + 46 + name_bytes].decode()
            at += 46 + name_bytes
            module = name.partition(".py")[0].replace("/", ".")
            self._places[module.removesuffix(".__init__")] = (name, begin + 30 + name_bytes, entry_bytes)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:  # noqa: ARG002
        """Return the spec of one of our modules, None for any other."""
        if fullname not in self._places:
            return None
        name = self._places[fullname][0]
        is_package = "/__init__.py" in name
        # Data lie in a folder beside the archive, where packages look for them by __file__.
        spec = ModuleSpec(fullname, self, origin=self._folder + name, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations.append(self._folder + fullname.replace(".", "/"))
        return spec

    def create_module(self, spec: object) -> None:
        """Leave the making of the module to the interpreter."""

    def exec_module(self, module: object) -> None:
        """Run the module's code."""
        name, begin, size_bytes = self._places[module.__spec__.name]
        data = os.pread(self._fd, size_bytes, begin)
        exec(self._code(name, data), module.__dict__)  # noqa: S102 - what an importer does

    def _code(self, name: str, data: bytes) -> object:
        if name.endswith(".py"):
            return compile(data, self.archive + "/" + name, "exec", dont_inherit=True)
        from importlib.util import MAGIC_NUMBER  # noqa: PLC0415
        from marshal import loads  # noqa: PLC0415

        if not data.startswith(MAGIC_NUMBER):
            raise ImportError(f"{self.archive} is not for this Python, which is a pre-release")
        return loads(data[PYC_HEADER_BYTES:])  # noqa: S302 - as the interpreter does


def main() -> None:
    """Start, by way of another Python where this one is not the right one or is set up for the command."""
    flags = sys.flags
    fits = os.path.exists(ARCHIVE)  # noqa: PTH110
    if not (fits and flags.isolated and flags.no_site and flags.dont_write_bytecode):
        sys.dont_write_bytecode = True
        sys.path.insert(0, ROOT + "/lib")
        import other_python  # noqa: PLC0415

        other_python.start_again(__file__, ARCHIVE, fits=fits)
    # Nothing but the standard library and the archive to import from.
    sys.meta_path.insert(0, Archive(ARCHIVE))
    sys.path.append(ARCHIVE)
    if not sys.executable:  # without PATH it is unknown
        sys.executable = os.readlink("/proc/self/exe")  # noqa: PTH115
    from satscore.cli.main import entry_point  # noqa: PLC0415

    entry_point()


if __name__ == "__main__":
    main()
