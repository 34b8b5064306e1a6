"""The plugin that keeps the book of behaviours, run on small test trees of its own."""

from __future__ import annotations

import pytest

from tests.behaviour_book import Book, hub_in, numbers_in

pytest_plugins = ["pytester"]

ALL_SHOWN = """
    import pytest

    @pytest.fixture(params=["memory", "disk", "azure"])
    def hub(request):
        return request.param

    def test_b1_empty_orchestration(hub):
        pass

    @pytest.mark.parametrize("count", [1, 2])
    def test_b2_b3_chain(hub, count):
        pass

    def test_b86_first_difference():
        pass
"""


@pytest.fixture
def tree(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project that requires B1 to B3 on a hub and B86 anywhere."""
    pytester.makefile(".toml", needed='[hub]\nB1 = "one"\nB2 = "two"\nB3 = "three"\n[any]\nB86 = "replay"\n')
    pytester.makeini("[pytest]\nbehaviours_file = needed.toml\n")
    return pytester


def run(tree: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the tree's tests with the plugin, in this process."""
    without = [
        flag for plugin in ("asyncio", "cacheprovider", "hypothesispytest") for flag in ("-p", f"no:{plugin}")
    ]
    return tree.runpytest_inprocess("-p", "tests.behaviour_book", *without, *options)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("test_b90_terminate_running", (90,)),
        ("test_b90_b91_terminate", (90, 91)),
        ("test_b7", (7,)),
        ("test_b7x_not_a_number", ()),
        ("test_bytes_round_trip", ()),
        ("test_a_b90_in_the_middle", ()),
    ],
)
def test_numbers_come_from_the_start_of_the_name(name: str, numbers: tuple[int, ...]) -> None:
    assert numbers_in(name) == numbers


@pytest.mark.parametrize(
    ("ids", "hub"),
    [("memory", "memory"), ("3-disk", "disk"), ("azure-x", "azure"), ("", "any"), ("diskette", "any")],
)
def test_hub_comes_from_the_parameter_ids(ids: str, hub: str) -> None:
    assert hub_in(ids) == hub


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one-process", "xdist"])
def test_run_that_shows_everything_passes(tree: pytest.Pytester, workers: tuple[str, ...]) -> None:
    tree.makepyfile(test_hub=ALL_SHOWN)
    result = run(tree, "--behaviours", *workers)
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=10)
    result.stdout.fnmatch_lines(
        [
            "*behaviours shown*",
            "* memory  disk    azure   any",
            "B1 * test_hub.py::test_b1_empty_orchestration  passed  passed  passed  -",
            "B2 * test_hub.py::test_b2_b3_chain * passed  passed  passed  -",
            "B3 * test_hub.py::test_b2_b3_chain * passed  passed  passed  -",
            "B86 * test_hub.py::test_b86_first_difference * -       -       -       passed",
        ]
    )


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one-process", "xdist"])
def test_missing_number_fails_the_run(tree: pytest.Pytester, workers: tuple[str, ...]) -> None:
    tree.makepyfile(test_hub=ALL_SHOWN.replace("_b3", "").replace("test_b86", "test_b87"))
    result = run(tree, "--behaviours", *workers)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=10, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*B3 three: no passing test on memory or disk*",
            "*B3 three: no passing test on azure*",
            "*B86 replay: no passing test*",
        ]
    )


def test_missing_number_is_no_matter_without_the_option(tree: pytest.Pytester) -> None:
    tree.makepyfile(test_hub=ALL_SHOWN.replace("_b3", ""))
    result = run(tree)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["B2 *passed  passed  passed  -"])


def test_failing_test_shows_as_failed_and_shows_nothing(tree: pytest.Pytester) -> None:
    tree.makepyfile(
        test_hub=ALL_SHOWN.replace("orchestration(hub):\n        pass", "orchestration(hub):\n        1 / 0")
    )
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*B1 one: no passing test*", "B1 *FAILED  FAILED  FAILED  -"])


def test_one_embedded_hub_is_enough_and_all_are_shown(tree: pytest.Pytester) -> None:
    only_disk = "orchestration(hub):\n        assert hub != 'memory' or pytest.skip('needs files')"
    tree.makepyfile(test_hub=ALL_SHOWN.replace("orchestration(hub):\n        pass", only_disk))
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["B1 *skipped passed  passed  -"])


@pytest.mark.parametrize(("only", "lacks"), [("memory", 3), ("azure", 3), ("other", 6)])
def test_passing_on_one_hub_does_not_stand_in_for_another(
    tree: pytest.Pytester, only: str, lacks: int
) -> None:
    tree.makepyfile(test_hub=ALL_SHOWN.replace('params=["memory", "disk", "azure"]', f'params=["{only}"]'))
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=lacks)


@pytest.mark.parametrize("broken", ["yield; 1 / 0", "1 / 0; yield"], ids=["teardown", "setup"])
def test_error_around_the_test_is_no_pass(tree: pytest.Pytester, broken: str) -> None:
    fixture = f"def hub(request):\n        {broken}"
    tree.makepyfile(test_hub=ALL_SHOWN.replace("def hub(request):\n        return request.param", fixture))
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*B1 one: no passing test*", "B1 *FAILED  FAILED  FAILED  -"])


def test_expected_failure_is_no_pass(tree: pytest.Pytester) -> None:
    body = "orchestration(hub):\n        pytest.xfail('not yet')"
    tree.makepyfile(test_hub=ALL_SHOWN.replace("orchestration(hub):\n        pass", body))
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*B1 one: no passing test*", "B1 *xfailed xfailed xfailed -"])


@pytest.mark.parametrize(
    "narrow", [("-k", "b1"), ("-m", "azure"), ("test_hub.py",), ("--deselect", "x")], ids=str
)
def test_option_refuses_to_judge_a_part(tree: pytest.Pytester, narrow: tuple[str, ...]) -> None:
    tree.makepyfile(test_hub=ALL_SHOWN)
    result = run(tree, "--behaviours", *narrow)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--behaviours judges the whole tree; leave out: *"])


def test_unreadable_list_is_a_usage_error(tree: pytest.Pytester) -> None:
    tree.makefile(".toml", needed="[hub]\nnine = 'no number'\n")
    result = run(tree)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cannot read the behaviours in *needed.toml*"])


def test_this_project_s_own_list_holds_every_number_of_the_first_version(
    request: pytest.FixtureRequest,
) -> None:
    ranges = [
        (1, 17),
        (20, 27),
        (29, 50),
        (60, 68),
        (70, 81),
        (85, 86),
        (90, 96),
        (106, 106),
        (110, 112),
        (122, 124),
    ]
    listed = Book.read(request.config.rootpath / "tests" / "behaviours.toml").missing()
    assert {n for n, _ in listed} >= {n for first, last in ranges for n in range(first, last + 1)}


def test_a_number_that_the_wire_does_not_show_fails_the_run(tree: pytest.Pytester) -> None:
    only_here = "orchestration(hub):\n        assert hub != 'azure' or pytest.skip('not over the wire')"
    tree.makepyfile(test_hub=ALL_SHOWN.replace("orchestration(hub):\n        pass", only_here))
    result = run(tree, "--behaviours")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=9, skipped=1, failed=1)
    result.stdout.fnmatch_lines(["*B1 one: no passing test on azure*"])
