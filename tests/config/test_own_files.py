"""A user's own file in config/: what it may contain, and that a mistake is reported in one line with its name."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

import config as registry_of_configs
from config import load_config, registry
from config.base import SECTIONS, Config
from config.errors import InputError
from tools.common.config_table import list_configs

STATEMENTS = "from config.base import Cost\nfrom config.published import Published\n"
HEAD = "from dataclasses import replace\nfrom config.solov2_tiny_shapes import SOLOv2TinyShapes as Tiny\n\n"
MINE = HEAD + "class Mine(Tiny):\n    number = 9100\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Return a function that writes files into a second folder, which is searched like config/."""
    monkeypatch.setattr(registry_of_configs, "__path__", [*registry_of_configs.__path__, str(tmp_path)])
    before = set(sys.modules)

    def forget() -> None:
        registry.cache_clear()
        registry_of_configs._config_classes.cache_clear()
        for name in set(sys.modules) - before:
            if name.startswith("config."):
                del sys.modules[name]

    def write(**files: str) -> None:
        forget()
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)

    yield write
    forget()


def error_of(which: object = 20) -> str:
    """Return the message of the error when a config is loaded; by default one of ours, next to the user's file."""
    with pytest.raises(InputError) as error:
        load_config(which)
    return str(error.value)


def test_own_config_is_found_by_number_and_name(write):
    write(trial=MINE + "    train_cfg = replace(Tiny.train_cfg, lr=1, milestones=[3, 5])\n    _note = 'kept'\n")
    for which in (9100, "9100", "trial"):
        found = load_config(which)
        assert (found.name, found.number, found.train_cfg.milestones) == ("trial", 9100, (3, 5))
        assert type(found.train_cfg.lr) is float


def test_same_number_in_two_files_names_both(write):
    write(trial=MINE, other=MINE)
    assert error_of() == "config/other.py and config/trial.py both have number = 9100; change one of them"
    with pytest.raises(InputError, match="config/other.py and config/trial.py"):
        list_configs()


def test_two_numbered_configs_in_one_file_would_have_one_checkpoint(write):
    write(trial=MINE + "\n\nclass Other(Mine):\n    number = 9101\n")
    assert error_of() == "config/trial.py: both Mine and Other have a number; give each a file of its own"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Mine(\n", "config/trial.py, line 1: SyntaxError: "),
        ("import no_such_module\n", "config/trial.py, line 1: ModuleNotFoundError: No module named 'no_such_module'; "),
        (HEAD + "1 / 0\n", "config/trial.py, line 4: ZeroDivisionError: division by zero; correct this file"),
        (MINE + "    data = replace(Tiny.data, shrt_side=5)\n", "config/trial.py, line 6: TypeError: "),
    ],
)
def test_file_that_cannot_be_imported_is_named(write, text, says):
    write(trial=text)
    assert error_of().startswith(says)


def test_mistake_of_an_imported_file_is_named_where_it_is(write):
    write(a_first="from config.later import Mine\n", later=HEAD + "1 / 0\n")
    assert error_of().startswith("config/later.py, line 4: ZeroDivisionError")
    write(a_first="from config.later import Mine\n", later="class Mine(\n")
    assert error_of().startswith("config/later.py, line 1: SyntaxError")


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ("train_pth = 'a.json'", "Mine.train_pth is not a field of a config; did you mean train_path?"),
        ("lr_mults = (1.0,)", "Mine.lr_mults is not a field of a config; did you mean backbone.lr_mults?"),
        ("batch_size = 4", "did you mean train_cfg.batch_size or eval_cfg.batch_size or test_cfg.batch_size?"),
        ("qqqqqqq = 4", "the fields are number, published, cost, num_classes, classes_path"),
        ("number = '9100'", "Mine.number='9100': expected a whole number"),
        ("number = True", "Mine.number=True: expected a whole number"),
        ("number = -1", "Mine.number=-1: expected 0 or more"),
        ("train_path = 5", "Mine.train_path=5: expected text"),
        ("train_cfg = {'epochs': 5}", "Mine.train_cfg={'epochs': 5}: expected a TrainConfig"),
        ("train_cfg = Tiny.eval_cfg", "expected a TrainConfig"),
        ("cost = Cost('1.5', 2)", "Mine.cost: parameters='1.5': expected a number"),
        ("published = Published('37', 'a', 'b')", "Mine.published: mask_ap='37': expected a number"),
        ("published = (Published(37, 5, 'b'),)", "Mine.published: where=5: expected text"),
    ],
)
def test_unknown_attribute_or_value_of_another_type_is_refused(write, stated, says):
    write(trial=STATEMENTS + MINE + f"    {stated}\n")
    message = error_of()
    assert message.startswith("config/trial.py: Mine.") and says in message


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ("train_cfg = replace(Tiny.train_cfg, batch_size='4')", "train_cfg.batch_size='4': expected a whole number"),
        ("train_cfg = replace(Tiny.train_cfg, epochs=2.5)", "train_cfg.epochs=2.5: expected a whole number"),
        ("train_cfg = replace(Tiny.train_cfg, model_path=None)", "train_cfg.model_path=None: expected text"),
        ("head = replace(Tiny.head, num_grids=('a', 2))", r"head.num_grids=('a', 2): expected a list of numbers"),
    ],
)
def test_value_of_another_type_is_refused_where_it_is_used(write, stated, says):
    write(trial=MINE + f"    {stated}\n")
    assert error_of(9100).startswith(f"config/trial.py: {says}")
    assert load_config(20).number == 20


def test_config_without_a_number_is_reported(write):
    write(trial=HEAD + "class Mine(Tiny):\n    train_path = 'a.json'\n")
    assert "Mine in config/trial.py has no number; add a line such as number = 100" in error_of("trial")
    assert load_config(20).name == "solov2_tiny_shapes"


def test_every_section_is_known():
    """A config class may define every section."""
    stated = {name: replace(getattr(Config, name)) for name in SECTIONS}
    kind = type("All", (Config,), {"number": 7, "num_classes": 3, "published": (), **stated})
    assert load_config(kind()).num_classes == 3


def test_one_published_checkpoint_needs_no_comma(write):
    write(trial=STATEMENTS + MINE + "    published = Published(37.0, 'a.org/a.pdparams', 'convert/solo2paddle.py')\n")
    assert [one.mask_ap for one in load_config(9100).published] == [37.0]
    assert "37.0" in list_configs()


def test_a_rule_that_a_file_breaks_is_named_with_it_by_the_list(write):
    write(trial=MINE + "    backbone = replace(Tiny.backbone, kind='swin')\n")
    with pytest.raises(InputError, match="config/trial.py: backbone.kind=swin: expected"):
        list_configs()


def test_a_number_of_thousands_of_digits_is_one_line():
    message = error_of("9" * 5000)
    assert "there is no such config" in message and len(message) < 1000
