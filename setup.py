"""The one thing that pyproject.toml cannot say: the CPU kernel, built where a compiler is found.

Without one the package installs all the same, and quantum layers use other engines.
"""

import sys

from setuptools import Extension, setup

if sys.platform == "win32":
    compile_args, link_args = [], []
else:
    compile_args = [
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
    link_args = ["-pthread"]

setup(
    ext_modules=[
        Extension(
            "qfl.quantum._kernel",
            ["qfl/quantum/native/kernel.cpp"],
            language="c++",
            extra_compile_args=compile_args,
            extra_link_args=link_args,
            optional=True,
        )
    ]
)
