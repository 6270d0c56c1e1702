"""JupyterLab as `make lab` opens it: at the root of the repository, where every link of a notebook leads somewhere, without pop-ups."""

from pathlib import Path

c = get_config()  # noqa: F821  (given by JupyterLab)
c.ServerApp.root_dir = str(Path(__file__).parents[2])
c.LabApp.default_url = "/lab/workspaces/rtalib/tree/notebooks/00_start_here.ipynb"
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
