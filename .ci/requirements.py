"""Prints what pyproject.toml asks for, a line each: installed before the extension can be built."""

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["train"], *extras["dev"], sep="\n")
