"""A run's picture: what is read, what is refused, what is drawn."""

import json

import matplotlib.image
import numpy as np
import pytest

from robotrl import plots
from robotrl.rundir import RunError


def episode(number, step_total, ended="time", **more):
    score = {"return": 10.0 * number, "speed": 0.1 * number}
    return {"kind": "episode", "episode": number, "steps": 100, "step_total": step_total, "ended": ended, **score, **more}


def write(path, records, tail=""):
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)


@pytest.fixture
def run_dir(tmp_path):
    learner = {"kind": "learner", "step_total": 200, "updates": 190, "updates_per_s": 140.0, "critic_loss": 0.1,
               "actor_loss": -1.0, "entropy": -6.0, "temperature": 0.05}  # fmt: skip
    evaluation = {"kind": "evaluation", "return_mean": 25.0, "speed_mean": 0.31, "falls": 1, "episodes": [{}, {}]}
    write(tmp_path / "metrics.jsonl", [episode(1, 100, "fall"), episode(2, 200), learner, evaluation])
    t = np.arange(200) * 0.02
    angles = np.sin(t)[:, None] + np.arange(8)
    np.savez(tmp_path / "traces.npz", t=t, position=angles, target=angles + 0.1, speed=np.full(200, 0.5))
    np.savez(tmp_path / "timing.npz", late_us=np.linspace(0, 300, 1000), cycle_us=np.full(1000, 4000.0))
    return tmp_path


def test_the_picture_is_drawn_whole(run_dir):
    path = plots.plot_run(run_dir)
    assert path == run_dir / "plot.png"
    picture = matplotlib.image.imread(path)
    assert picture.shape[0] > 1000 and picture.shape[1] > 1000
    assert picture[..., :3].std() > 0.05, "more than white paper"
    assert not list(run_dir.glob(".plot*")), "nothing half-written stays"


@pytest.mark.parametrize("missing", ["metrics.jsonl", "traces.npz", "timing.npz"])
def test_a_missing_file_is_an_empty_panel(run_dir, missing):
    (run_dir / missing).unlink()
    assert plots.plot_run(run_dir).is_file()


def texts_of(run_dir, monkeypatch):
    """All words on the picture's panels."""
    import matplotlib.pyplot as plt

    said = []

    def listen(figure):
        for axis in figure.axes:
            said.append(axis.get_title(loc="left"))
            said.extend(t.get_text() for t in axis.texts)
            if legend := axis.get_legend():
                said.extend(t.get_text() for t in legend.get_texts())

    monkeypatch.setattr(plt, "close", listen)
    plots.plot_run(run_dir)
    monkeypatch.undo()
    plt.close("all")
    return "\n".join(said)


def test_panels_say_what_they_show_and_what_is_missing(run_dir, monkeypatch):
    said = texts_of(run_dir, monkeypatch)
    for words in ("ended in a fall", "evaluation", "front left leg", "back right leg", "p99.9  300", "0.31", "motor 7"):
        assert words in said, said
    assert "no t" not in said
    (run_dir / "traces.npz").unlink()
    (run_dir / "timing.npz").unlink()
    said = texts_of(run_dir, monkeypatch)
    assert "no traces.npz" in said and "no timing.npz" in said


def test_how_many_periods_a_picture_covers_is_said(run_dir, monkeypatch):
    assert "max  300 µs of 1,000 periods" in texts_of(run_dir, monkeypatch)
    late = np.linspace(0, 300, 1000)
    np.savez(run_dir / "timing.npz", late_us=late, cycle_us=late, periods=8000, worst_us=912.0)
    assert "max  300 µs of 1,000 newest, 912 µs of all 8,000 periods" in texts_of(run_dir, monkeypatch)


def test_a_rehearsal_shows_what_a_period_took_and_the_wait_for_the_learner(run_dir, monkeypatch):
    np.savez(run_dir / "timing.npz", step_us=np.linspace(0, 2000, 1001), waited_s=41.7)
    said = texts_of(run_dir, monkeypatch)
    assert "lockstep loop" in said and "p99  1,980" in said and "1 s at work, 42 s waiting for the learner" in said
    np.savez(run_dir / "timing.npz", something=np.zeros(3))
    with pytest.raises(RunError, match=r"timing.npz: lacks late_us or step_us; it has something"):
        plots.plot_run(run_dir)


def test_summary_counts(run_dir):
    assert plots.summary(plots.read(run_dir), plots.walked) == (
        "200 steps, 2 episodes, 1 falls and 0 stuck in training   ·   evaluation: 0.31 m/s, return 25, falls 1 of 2"
    )


def test_an_evaluation_without_a_step_stands_where_training_stood(run_dir):
    assert plots.read(run_dir).column("evaluation", "step_total").tolist() == [200.0]


def test_a_torn_last_line_is_left_out_and_a_bad_line_is_named(run_dir):
    path = run_dir / "metrics.jsonl"
    write(path, [episode(1, 100)], tail='{"kind": "epis')
    assert len(plots.read(run_dir).records["episode"]) == 1
    write(path, [episode(1, 100)], tail="rubbish\n" + json.dumps(episode(2, 200)) + "\n")
    with pytest.raises(RunError, match=r"metrics.jsonl, line 2"):
        plots.read(run_dir)


def test_running_mean_leaves_nan_out():
    values = np.array([1.0, np.nan, 3.0, 5.0])
    assert plots.running_mean(values, 2).tolist() == [1.0, 1.0, 3.0, 4.0]


def test_integer_times_are_nanoseconds(run_dir):
    arrays = dict(np.load(run_dir / "traces.npz"))
    arrays["t"] = (arrays["t"] * 1e9).astype(np.int64)
    np.savez(run_dir / "traces.npz", **arrays)
    assert plots.read(run_dir).traces["t"][-1] == pytest.approx(199 * 0.02)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not a zip"])
def test_a_corrupt_array_file_is_one_line(run_dir, content, capsys):
    (run_dir / "timing.npz").write_bytes(content)
    assert plots.main([str(run_dir)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "timing.npz" in error and "corrupt" in error


def test_pickled_arrays_are_refused(run_dir):
    np.savez(run_dir / "timing.npz", late_us=np.array([{}], dtype=object))
    with pytest.raises(RunError, match="corrupt"):
        plots.read(run_dir)


@pytest.mark.parametrize(("argument", "says"), [("nowhere", "no such directory"), (".", "nothing to draw")])
def test_no_run_is_one_line(tmp_path, capsys, argument, says):
    assert plots.main([str(tmp_path / argument)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and says in error


def test_command_prints_the_path(run_dir, capsys):
    assert plots.main([str(run_dir)]) == 0
    assert capsys.readouterr().out.strip() == str(run_dir / "plot.png")
    assert plots.main([str(run_dir), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"picture": str(run_dir / "plot.png")}
    assert plots.main(["--help"]) == 0 and plots.main([]) == plots.main(["--jsno"]) == plots.main(["--json"]) == 2
