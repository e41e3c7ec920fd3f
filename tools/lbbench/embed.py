# SPDX-License-Identifier: MIT
"""embed.py OUT FILE...: C++ that holds the files' text, so that a program needs none of them where it runs.

OUT defines `const EmbeddedFile kPeerFiles[]` (peer.hh): name and text.
"""
import pathlib
import sys

out, *files = map(pathlib.Path, sys.argv[1:])
rows = [f'    {{"{file.name}", R"embedded({file.read_text()})embedded"}},\n' for file in files]
out.write_text('#include "peer.hh"\n\nnamespace lbbench {\nconst EmbeddedFile kPeerFiles[] = {\n' + "".join(rows) +
               "};\nconst size_t kPeerFileCount = " + str(len(files)) + ";\n}  // namespace lbbench\n")
