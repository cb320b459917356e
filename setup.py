"""The one thing that pyproject.toml cannot say: the CPU kernel, built where a compiler is found.

Without one the package installs all the same, and circuits run on the torch engine. The kernel
uses nothing of Python's API, so one build serves every Python version. See docs/building.md.
"""

import shutil
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

UNIX = [
    "-O3",
    "-std=c++17",
    "-ffp-contract=fast",  # a * b + c in one instruction
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-pthread",
    "-Wno-psabi",
    "-g0",
]
# /MT: Python brings the C runtime of Windows along, but not that of C++.
WINDOWS = ["/clang:-O3", "/std:c++17", "/MT", "/clang:-ffp-contract=fast"]


class BuildKernel(build_ext):
    """Gives each compiler its own flags."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the kernel; what is raised here becomes a warning, as it is optional."""
        if self.compiler.compiler_type == "msvc":
            clang = shutil.which("clang-cl")
            if clang is None:
                raise CompileError("the kernel's vectors are unknown to cl; clang-cl is needed")
            self.compiler.initialize()  # finds the headers, libraries and linker of Visual Studio
            self.compiler.cc = clang
            ext.extra_compile_args = WINDOWS
        else:
            ext.extra_compile_args, ext.extra_link_args = UNIX, ["-pthread"]
        super().build_extension(ext)


setup(
    cmdclass={"build_ext": BuildKernel},
    ext_modules=[
        Extension(
            "qfl.quantum._kernel",
            ["qfl/quantum/native/kernel.cpp"],
            depends=sorted(glob("qfl/quantum/native/*.h")),
            language="c++",
            optional=True,
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
