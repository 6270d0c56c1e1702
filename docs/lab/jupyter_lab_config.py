"""JupyterLab as `make lab` opens it: at the root of the repository, where every link of a notebook leads somewhere, without pop-ups."""

import atexit
import shutil
import tempfile
from pathlib import Path

from jupyter_core.paths import jupyter_config_dir

HERE = Path(__file__).parent
c = get_config()  # noqa: F821  (given by JupyterLab)
c.ServerApp.root_dir = str(HERE.parents[1])
c.LabApp.default_url = "/lab/workspaces/rtalib"  # layout.json: notebook 00 with its table of contents
c.LabApp.app_settings_dir = str(HERE / "settings")
c.LabApp.custom_css = True
# JupyterLab serves the first custom.css of its path: here one that imports our rules (figures in dark themes and narrow windows) and then
# the user's own, which so have the last word. What these refer to is found in the user's folder.
own, served = Path(jupyter_config_dir()) / "custom", Path(tempfile.mkdtemp())
atexit.register(shutil.rmtree, served)
sheets = {name: path for name, path in {"rtalib.css": HERE / "custom.css", "own.css": own / "custom.css"}.items() if path.exists()}
for name, path in sheets.items():
    shutil.copy(path, served / name)
(served / "custom.css").write_text("".join(f'@import "{name}";\n' for name in sheets))
c.ServerApp.tornado_settings = {"static_custom_path": [str(served), str(own)]}  # no trait that can be set
