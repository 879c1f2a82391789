"""Doctored histories: what was acknowledged is lost, doubled, moved, or not what was given (`tale.py`)."""

from __future__ import annotations

from tests.bench.tale import KEYS, MS, of


def the(r, kind):
    return next(x for x in r if x["k"] == kind)


def numbered(r, kind, number):
    """The log's record of this kind and number."""
    return next(x for x in the(r, "kept")["records"] if (x[1], x[4]) == (kind, number))


def taken_out(r, *gone):
    """The log as if it had never had these records; and its index."""
    kept = the(r, "kept")
    kept["records"] = [[n, *x[1:]] for n, x in enumerate([x for x in kept["records"] if x not in gone], 1)]
    kept["index"] = [[x[0], x[3], x[4], x[5]] for x in kept["records"] if x[1] == 2]


def written_twice(r, kind, number):
    kept, record = the(r, "kept"), numbered(r, kind, number)
    kept["records"].append([len(kept["records"]) + 1, *record[1:]])


def in_another_place(r, kind, number):
    one, two = numbered(r, kind, number), numbered(r, kind, number + 1)
    one[1:], two[1:] = two[1:], one[1:]


def transitions_lost(r):
    the(r, "recovered")["count"] = 59


def a_gap_in_the_replay(r):
    del the(r, "recovered")["rows"][10]


def a_row_that_is_not_the_logs(r):
    rows = the(r, "recovered")["rows"]
    rows[-1] = [1, 0]


def first_row_is_not_the_logs(r):
    the(r, "recovered")["rows"][0] = [-1, 0]


def rows_change_places(r):
    """In all that there is: the policy gave them so."""
    for heard, number in zip(of(r, "transition")[5:7], (7, 6), strict=True):
        heard["m"]["says"] = numbered(r, 1, number)[5]
    one, two = numbered(r, 1, 6), numbered(r, 1, 7)
    one[5], two[5] = two[5], one[5]
    rows = the(r, "recovered")["rows"]
    rows[5], rows[6] = rows[6], rows[5]


def steps_left_out(r):
    """Of all that there is, and nobody says so."""
    for x in of(r, "transition")[20:]:
        x["m"]["says"] = [0, x["m"]["says"][1] + 5, *x["m"]["says"][2:]]
        numbered(r, 1, x["m"]["number"])[5] = x["m"]["says"]
    the(r, "recovered")["rows"][20:] = [[0, step + 5] for step in range(20, 60)]


def more_durable_than_there(r):
    the(r, "recovered")["durable"] = 61


def transitions_have_become_fewer(r):
    of(r, "episode")[90]["m"]["transitions"] = 3


def last_step_lost(r):
    taken_out(r, numbered(r, 1, 60))


def step_lost(r):
    taken_out(r, numbered(r, 1, 20))


def all_of_the_log_lost(r):
    the(r, "kept")["records"] = []


def first_record_lost(r):
    del the(r, "kept")["records"][0]


def step_doubled(r):
    written_twice(r, 1, 20)


def steps_change_places(r):
    in_another_place(r, 1, 5)


def step_is_another(r):
    numbered(r, 1, 20)[5] = [0, 19, 60, 0.5, False, False, 7]


def step_is_another_when_it_is_sent_again(r):
    given = of(r, "transition")[19]
    r.append({**given, "t": 2_600 * MS, "m": {**given["m"], "boot": 8, "life": 7}})  # by the policy's next life, for this one
    numbered(r, 1, 20)[5] = [0, 19, 61, 0.5, False, False, 1060]


def durable_and_not_there(r):
    of(r, "ack")[-1]["m"]["durable"] += 2  # the last record had come after it


def a_segment_not_as_it_was_sealed(r):
    the(r, "kept")["unsealed"] = ["00000001.log"]


def a_segment_found_damaged(r):
    the(r, "kept")["damaged"] = ["00000001.damaged"]


def label_lost(r):
    taken_out(r, numbered(r, 2, 3))


def first_label_lost(r):
    taken_out(r, numbered(r, 2, 1))


def label_doubled(r):
    written_twice(r, 2, 3)


def labels_change_places(r):
    in_another_place(r, 2, 2)


def label_moved(r):
    numbered(r, 2, 3)[5] = [1600, -1.0, 71, "add", 7, 0, 30, 27, "", [0, 0, 0], 0]


def label_of_another_worth(r):
    says = numbered(r, 2, 1)[5]
    numbered(r, 2, 1)[5] = [says[0], 2.0, *says[2:]]


def undo_of_another(r):
    says = numbered(r, 2, 2)[5]
    numbered(r, 2, 2)[5] = [*says[:9], [11, 1, 3], 0]


def label_of_what_nobody_saw(r):
    says = [1600, -1.0, 69, "add", 7, 0, 29, 27, "", [0, 0, 0], 0]  # step 29 was at tick 70
    for x in of(r, "label"):
        if x["m"]["number"] == 3:
            x["m"]["says"] = says
    numbered(r, 2, 3)[5] = says
    taken_out(r)


def label_of_what_was_still_to_come(r):
    for x in of(r, "episode"):
        x["m"]["t"] += 300 * MS


def label_moved_in_the_index(r):
    index = the(r, "kept")["index"]
    index[2] = [*index[2][:3], [1600, -1.0, 71, "add", 7, 0, 30, 27, "", [0, 0, 0], 0]]


def label_counts_twice(r):
    the(r, "kept")["index"].append(the(r, "kept")["index"][0])


def label_does_not_count(r):
    the(r, "kept")["index"].pop()


def label_counts_for_no_step(r):
    numbered(r, 1, 10)[5][2] += 1  # its step was at another tick
    of(r, "transition")[9]["m"]["says"] = numbered(r, 1, 10)[5]


def label_of_nobody(r):
    the(r, "kept")["index"].append([99, 12, 1, KEYS[60]])


UNKEPT = {
    "I7": (
        first_row_is_not_the_logs, rows_change_places, steps_left_out, more_durable_than_there, transitions_have_become_fewer,
        transitions_lost, a_gap_in_the_replay, a_row_that_is_not_the_logs, last_step_lost, step_lost, all_of_the_log_lost,
        first_record_lost, step_doubled, steps_change_places, step_is_another, step_is_another_when_it_is_sent_again,
        durable_and_not_there, a_segment_not_as_it_was_sealed, a_segment_found_damaged,
    ),
    "I8": (
        label_lost, first_label_lost, label_doubled, labels_change_places, label_moved, label_of_another_worth, undo_of_another,
        label_of_what_nobody_saw, label_of_what_was_still_to_come, label_moved_in_the_index, label_counts_twice,
        label_does_not_count, label_counts_for_no_step, label_of_nobody,
    ),
}  # fmt: skip
