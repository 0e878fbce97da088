"""Ansible module: keep a directory equal to the content of an archive."""
# Runs on the hosts, under whatever Python Ansible drives there, 2.7 included: no annotations,
# no pathlib, no f-strings.

import base64
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
    them executable.
options:
  path:
    description: The directory on the host.
    type: path
    required: true
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
    archive: "{{ lookup('ansible.builtin.pipe', 'tar --create --directory=app . | base64') }}"
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


def read_archive(text):
    """Return {relative path: (bytes, mode)} and the set of directories, "." among them."""
    files, directories = {}, {"."}
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:*") as archive:
        for member in archive:
            name = os.path.normpath(member.name)
            if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
                raise ValueError("{} is outside of the directory".format(member.name))
            if member.isdir():
                directories.add(name)
            elif member.isfile():
                files[name] = (archive.extractfile(member).read(), 0o755 if member.mode & 0o100 else 0o644)
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


def is_right(path, mode):
    """Tell whether what stands at `path` has the owner and mode that it should have."""
    state = os.lstat(path)
    return state.st_mode & 0o7777 == mode and (state.st_uid, state.st_gid) == (os.geteuid(), os.getegid())


def settle(path, mode):
    """Give `path` the owner and mode that it should have."""
    os.chown(path, os.geteuid(), os.getegid())
    os.chmod(path, mode)


def read(path):
    """Return the bytes of a file, or None if there is no such file."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as stream:
        return stream.read()


def write(path, content, mode):
    """Write a file by one rename, so that no reader sees half of it."""
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    settle(temporary, mode)
    os.rename(temporary, path)


def remove(path):
    """Remove a file, a link or a whole directory."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.remove(path)


def show(content):
    """Return the text of a file for the diff; of what is no text, its digest."""
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError:
        return "(no text; sha256 {})\n".format(hashlib.sha256(content).hexdigest())


def compare(path, files, directories):
    """Return the relative paths to remove, those to write, and the difference for `--diff`."""
    removed = find_strangers(path, files, directories)
    written = []
    diff = [{"before_header": name, "after_header": "removed", "before": name + "\n", "after": ""} for name in removed]
    for name in sorted(directories):
        target = os.path.join(path, name)
        if name in removed or not os.path.isdir(target) or not is_right(target, 0o755):
            written.append(name)
    for name, (content, mode) in sorted(files.items()):
        target = os.path.join(path, name)
        before = None if name in removed else read(target)
        if before != content or not is_right(target, mode):
            written.append(name)
            diff.append({"before_header": name, "after_header": name, "before": show(before), "after": show(content)})
    return removed, written, diff


def apply(path, files, removed, written):
    """Make the directory equal; a directory comes before what it holds."""
    for name in removed:
        remove(os.path.join(path, name))
    for name in written:
        target = os.path.normpath(os.path.join(path, name))
        if name in files:
            write(target, *files[name])
            continue
        if not os.path.isdir(target):
            os.makedirs(target)
        settle(target, 0o755)


def main():
    """Tell what differs and, unless in check mode, make it equal."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            # Not secret; but every host would write all of it to its journal, at each run.
            "archive": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    try:
        files, directories = read_archive(module.params["archive"])
    except (TypeError, ValueError, tarfile.TarError) as error:
        module.fail_json(msg="The archive for {} cannot be read: {}".format(path, error))
    if not files:
        module.fail_json(msg="The archive for {} holds no file: nothing was changed.".format(path))
    removed, written, diff = compare(path, files, directories)
    if not module.check_mode:
        apply(path, files, removed, written)
    module.exit_json(changed=bool(written or removed), written=written, removed=removed, diff=diff)


if __name__ == "__main__":
    main()
