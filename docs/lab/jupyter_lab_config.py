"""JupyterLab as `make lab` opens it: at the root of the repository, where every link of a notebook leads somewhere, without pop-ups."""

from pathlib import Path

HERE = Path(__file__).parent
c = get_config()  # noqa: F821  (given by JupyterLab)
c.ServerApp.root_dir = str(HERE.parents[1])
c.LabApp.default_url = "/lab/workspaces/rtalib"  # layout.json: notebook 00 with its table of contents
c.LabApp.app_settings_dir = str(HERE / "settings")
c.LabApp.custom_css = True  # figures in dark themes; the folder of custom.css is no trait that can be set
c.ServerApp.tornado_settings = {"static_custom_path": [str(HERE / "custom")]}
