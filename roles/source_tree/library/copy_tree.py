"""The documentation of the action `copy_tree`, whose code is the action plugin of that name."""

DOCUMENTATION = """
module: copy_tree
short_description: Keep a directory of the host equal to one of the controller
description:
  - An action of the controller. It packs the directory once, with GNU tar, and has the module M(mirror_tree) unpack it.
  - It fails, and changes nothing, where a file cannot be read or there is too much to copy.
  - A virtual environment (a directory with C(pyvenv.cfg)) and a directory that calls itself a cache (C(CACHEDIR.TAG))
    are not copied. Of a link what it leads to is copied, if anything.
options:
  source:
    description: The directory on the controller.
    type: path
    required: true
  path:
    description: The directory on the host.
    type: path
    required: true
  excludes:
    description: Patterns (C(tar --exclude)) of what is not copied.
    type: list
    elements: str
    default: []
  only:
    description: Names in the directory that alone are copied. Empty, all of them.
    type: list
    elements: str
    default: []
  max_megabytes:
    description: The most that is copied, in megabytes.
    type: float
    required: true
  group:
    description: The group that alone reads what others may not read on the controller, as M(mirror_tree) has it.
    type: str
    default: ""
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: the authors of the role source_tree
"""

EXAMPLES = """
- name: Copy the source
  copy_tree:
    source: files/app
    path: /opt/app/src/app
    max_megabytes: 50
"""

RETURN = """
written:
  description: Files and directories that were written, relative to the directory.
  type: list
  returned: always
removed:
  description: Files and directories that were removed, relative to the directory.
  type: list
  returned: always
"""
