"""Rows of the fault catalogue that the matrix does not play, or not alone: tested elsewhere, or not of this robot.

Their controls: `altered.py`.
"""

# fmt: off
ELSEWHERE = {
    # number: what, and the test that shows it
    11: "missing and swapped ids: tests/nodes/test_servos.py::"
        "test_what_the_handshake_complains_of_keeps_the_driver_from_ever_giving_torque",
    12: "a latency timer at the start: tests/drivers/test_chain.py::test_slow_adapter_is_named",
    18: "frames lost or late: tests/safety/test_camera_rows.py::test_the_robot_holds_within_the_rows_budget",
    19: "dark, dazzled: tests/safety/test_camera_rows.py::test_the_robot_holds_within_the_rows_budget",
    20: "a camera unplugged: tests/safety/test_camera_rows.py::test_the_robot_holds_within_the_rows_budget",
    21: "nothing reads the time of day: tests/test_layout.py::"
        "test_nothing_runs_what_a_file_tells_it_to_or_reads_the_time_of_day",
    27: "a slow reader: tests/test_bus.py::test_a_latest_topic_gives_the_newest_to_a_stalled_reader",
    29: "a huge message: tests/test_bus.py::test_a_message_longer_than_its_topics_is_not_taken_and_not_sent",
    30: "malformed messages: tests/test_bus.py::test_foreign_bytes_are_counted_and_dropped",
    31: "a peer without the key, or of another role: tests/test_door.py::"
        "test_without_the_right_key_no_byte_is_delivered_and_none_comes_out",
    32: "nothing that a file holds is run: tests/test_layout.py::"
        "test_nothing_runs_what_a_file_tells_it_to_or_reads_the_time_of_day",
    34: "kill -9 of every process: tests/test_wall_clock.py::test_each_death_leads_to_its_state",
    37: "the recorder: tests/nodes/test_guard.py::test_a_recorder_that_is_gone_or_keeps_nothing_stops_a_robot_that_learns",
    42: "the learner dies first: tests/test_wall_clock.py::test_it_runs_learns_ends_on_a_signal_and_leaves_nothing",
    44: "a full disk: tests/test_log.py::test_a_full_disk_stops_acknowledgements_until_there_is_room",
    45: "torn log: tests/test_log_power.py::test_a_power_cut_at_any_moment_of_a_logs_first_life",
    46: "a torn checkpoint: tests/test_checkpoint.py::test_cut_off_at_any_call_the_one_before_or_the_new_one_is_found",
    47: "bit rot: tests/test_log.py::test_a_flipped_bit_is_said_and_nothing_is_thrown_away",
    48: "corrupt configuration and calibration: tests/test_config.py::test_mistakes_in_a_file",
    50: "another robot's calibration: tests/calibration/test_store.py::test_another_robots_record_is_refused_and_both_are_named",
    55: "weights that are no numbers: tests/nodes/test_policy.py::test_weights_that_do_not_check_out_are_refused_and_said_once",
    64: "keys by state, cause and role: tests/safety/test_guard.py::test_state_by_command_by_role",
}
NOT_HERE = {
    5: "no sync read on this bus: each moteus is asked by itself, and a lost answer silences nobody else; lines play it",
    13: "no Alert on this bus: a moteus says its fault in register 0x0F (row 7); Dynamixel and Feetech play it",
    54: "not judged: a Minitaur's learned walk turns a joint round up to 14 times a second by 2 degrees or more, exploration 16:"
        " the row's 8 would stop both; the gate bounds the speed, hot motors stop it (row 6); arms play it",
    60: "of arms, which play it; a leg's folding is bounded by the sum of its two motors, which the witness reads",
}
# Of robots on bus servos; what else they do not play is as above.
NOT_ON_A_LINE = {
    15: "no IMU: an arm stands on a table, D'Kitty hangs in its stand",
    16: "no IMU",
    17: "no tracker",
    18: "no tracker",
    20: "no tracker",
    33: "the stage plays no task, so that nobody learns; of an arm's live session, whose learner is killed in RUN, which goes on:"
        " bench/results/wall_clock_reach.json",
    58: "nothing to fall with",
}
