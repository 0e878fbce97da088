"""Ansible module: keep a directory equal to the content of an archive."""
# Runs on the hosts, under whatever Python Ansible drives there, 2.7 included: no annotations,
# no pathlib, no f-strings.

import base64
import grp
import hashlib
import io
import os
import shutil
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: mirror_tree
short_description: Keep a directory equal to the content of an archive
description:
  - Writes what differs, removes what the archive does not have, leaves the bytecode of what it has.
  - Files belong to the user that the module runs as, with mode 0644, or 0755 where the archive has
    them executable. With O(group), what others may not read in the archive is that group's, with mode
    0640 or 0750.
options:
  path:
    description: The directory on the host.
    type: path
    required: true
  group:
    description: The group that alone reads what others may not read in the archive. Empty, everybody may.
    type: str
    default: ""
  archive:
    description: A tar archive, in base64. Kept out of the host's log, which would have the source at each run.
    type: str
    required: true
attributes:
  check_mode: {support: full}
  diff_mode: {support: full}
author: the authors of the role source_tree
"""

EXAMPLES = """
- name: Copy the source
  mirror_tree:
    path: /opt/app/src/app
    archive: "{{ lookup('ansible.builtin.file', 'app.tar.base64') }}"
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


def mode_of(member, private):
    """Return the mode that a member of the archive has on the host; `private` tells that others may be kept out."""
    mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return mode & ~0o007 if private and not member.mode & 0o007 else mode


def read_archive(text, private):
    """Return {relative path: (bytes, mode)} and {relative path: mode} of the directories, "." among them."""
    files, directories = {}, {".": 0o755}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:*") as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
                raise ValueError("{} is outside of the directory".format(member.name))
            if member.isdir():
                directories[name] = mode_of(member, private)
            elif member.isfile():
                files[name] = (archive.extractfile(member).read(), mode_of(member, private))
    return files, directories


def is_bytecode(name, files):
    """Tell whether `name` is what Python 2 compiled, beside the source, from one of `files`."""
    return name.endswith((".pyc", ".pyo")) and name[:-1] in files


def find_strangers(path, files, directories):
    """Return the relative paths below `path` that the archive lacks, or has as something else."""
    strangers = []
    for parent, folders, names in os.walk(path):
        for name in list(folders):
            relative = os.path.normpath(os.path.join(os.path.relpath(parent, path), name))
            if relative in directories and not os.path.islink(os.path.join(parent, name)):
                continue
            folders.remove(name)
            if name != "__pycache__":
                strangers.append(relative)
        for name in names:
            relative = os.path.normpath(os.path.join(os.path.relpath(parent, path), name))
            stranger = relative not in files and not is_bytecode(relative, files)
            if stranger or os.path.islink(os.path.join(parent, name)):
                strangers.append(relative)
    return sorted(strangers)


def is_private(mode):
    """Tell whether a mode keeps others out."""
    return not mode & 0o007


def is_right(path, mode, group):
    """Tell whether `path` has the owner and mode that it should have; what is private is the group's."""
    state = os.lstat(path)
    owner = (os.geteuid(), group if is_private(mode) else os.getegid())
    return state.st_mode & 0o7777 == mode and (state.st_uid, state.st_gid) == owner


def settle(path, mode, group):
    """Give `path` the owner and mode that it should have."""
    os.chown(path, os.geteuid(), group if is_private(mode) else os.getegid())
    os.chmod(path, mode)


def read(path):
    """Return the bytes of a file, or None if there is no such file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


def write(path, content, mode, group):
    """Write a file by one rename, so that no reader sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    settle(temporary, mode, group)
    os.rename(temporary, path)


def remove(path):
    """Remove a file, a link or a whole directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def show(content, mode):
    """Return the text of a file for the diff; of what is no text, or private, its digest."""
    if content and is_private(mode):
        return "(private; sha256 {})\n".format(hashlib.sha256(content).hexdigest())
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError:
        return "(no text; sha256 {})\n".format(hashlib.sha256(content).hexdigest())


def compare(path, files, directories, group):
    """Return the relative paths to remove, those to write, and the difference for `--diff`."""
    removed = find_strangers(path, files, directories)
    written = []
    diff = [{"before_header": name, "after_header": "removed", "before": name + "\n", "after": ""} for name in removed]
    for name, mode in sorted(directories.items()):
        target = os.path.join(path, name)
        if name in removed or not os.path.isdir(target) or not is_right(target, mode, group):
            written.append(name)
    for name, (content, mode) in sorted(files.items()):
        target = os.path.join(path, name)
        before = None if name in removed else read(target)
        if before != content or not is_right(target, mode, group):
            written.append(name)
            shown = {"before": show(before, mode), "after": show(content, mode)}
            diff.append(dict(shown, before_header=name, after_header=name))
    return removed, written, diff


def apply(path, files, directories, removed, written, group):
    """Make the directory equal; a directory comes before what it holds."""
    for name in removed:
        remove(os.path.join(path, name))
    for name in written:
        target = os.path.normpath(os.path.join(path, name))
        if name in files:
            write(target, files[name][0], files[name][1], group)
            continue
        if not os.path.isdir(target):
            os.makedirs(target)
        settle(target, directories[name], group)


def find_group(module):
    """Return the number of the group that has what is private; ends the module where there is none of that name."""
    try:
        return grp.getgrnam(module.params["group"]).gr_gid if module.params["group"] else os.getegid()
    except KeyError:
        # In check mode what would make it has not done so.
        if not module.check_mode:
            module.fail_json(msg="There is no group {} for {}.".format(module.params["group"], module.params["path"]))
        return os.getegid()


def main():
    """Tell what differs and, unless in check mode, make it equal."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "group": {"type": "str", "default": ""},
            # Not secret; but every host would write all of it to its journal, at each run.
            "archive": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    path, group = module.params["path"], find_group(module)
    try:
        files, directories = read_archive(module.params["archive"], private=bool(module.params["group"]))
    except (TypeError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg="The archive for {} cannot be read: {}".format(path, error))
    if not files:
        module.fail_json(msg="The archive for {} holds no file: nothing was changed.".format(path))
    removed, written, diff = compare(path, files, directories, group)
    if not module.check_mode:
        apply(path, files, directories, removed, written, group)
    module.exit_json(changed=bool(written or removed), written=written, removed=removed, diff=diff)


if __name__ == "__main__":
    main()
