"""Write a wheel: `wheel.py DIRECTORY NAME [WHAT IT REQUIRES]`."""

import sys
import zipfile
from pathlib import Path

directory, name, *requires = sys.argv[1:]
needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
about = f"{name}-1.0.dist-info"
files = {
    f"{name}.py": f'"""The module {name}."""\n',
    f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{needs}",
    f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: scenario\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}
files[f"{about}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{about}/RECORD"])
Path(directory).mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(Path(directory, f"{name}-1.0-py3-none-any.whl"), "w") as wheel:
    for path, text in files.items():
        wheel.writestr(path, text)
