"""Column "ms" of the fault catalogue, written from the safety facts (section 2), and why a played row is allowed longer.

The bound is from a fault's onset to the bytes that stop. In the matrix an onset lies right behind a look of the 20 ms loop, and
the bytes are counted a period after the guard's word: what is seen at once takes 40 ms.
"""

from __future__ import annotations

T_MS = 20
# None: the column has no time of a stop there (no bound, a start, a state that is refused, or "no stop").
BOUND_MS: dict[int, int | None] = {
    1: 80, 2: 80, 3: 1000, 4: 80, 5: 80, 6: 1000, 7: 40, 8: 40, 9: 25, 10: None, 11: None, 12: None, 13: 0, 14: 80, 15: 80,
    16: 3 * 5 + 20,  # 3 samples, at 200 Hz, and 20
    17: 120, 18: 120, 19: 190, 20: 120, 21: 0,
    22: T_MS,  # the first cycle
    23: 95, 24: 0, 25: 0, 26: 95, 27: 0, 28: 0, 29: 0, 30: 0, 31: 0, 32: 0, 33: None, 34: 40, 35: 80, 36: 120, 37: None, 38: 520,
    39: 80, 40: 120, 41: 4 * T_MS, 42: None, 43: None, 44: 1000, 45: None, 46: None, 47: None, 48: None, 49: 150, 50: None, 51: 0,
    52: 0, 53: 0, 54: 1000, 55: 0, 56: 0, 57: 0, 58: 150, 59: 600, 60: 40, 61: 1000, 62: 40, 63: 100, 64: 0,
}  # fmt: skip

LOOKS = "the loop looks every 20 ms and its bytes are counted a period later"
REFUSED = "0 is of the bytes: no such action reaches the wire, which the witness reads; ms is when "
STALE = "an action is stale at 95 ms, as the row says; " + LOOKS
MISSED = "two lost answers are borne; of one in five the third in a second is lost 220 to 300 ms after the onset; " + LOOKS
POSES = "a pose may be 1.5 s old (tracker_gone), and is judged in RUN alone: a Minitaur's episode may end before, and RESET first"
CONFIRM = "torque may be on for the stop profile (0.5 s; an arm is lowered, 8 s at most); then five stops are not read back"
CAUGHT = "the strain builds up as the goal is led on into what holds the joint; it is judged 0.5 s after that (for_arms)"
# (row, name): the longest ms that any robot has there, and why.
LONGER: dict[tuple[int, str], tuple[int, str]] = {
    (1, "a servo misses one answer in five"): (320, MISSED),
    (3, "junk between the answers"): (1300, "the rate must stand for the row's 1 s (frame_errors), and needs some frames"
        " to pass 1 %"),
    (4, "a servo repeats its reading"): (140, "frozen is the fifth repeat of a reading (servo_frozen), a period each; " + LOOKS),
    (4, "old answers again, one cycle's"): (240, "the wire keeps two of its answers first, which are sound; the third"
        " miss behind them counts"),
    (6, "a servo over its limit, and the stop profile"): (4500, "the row beside it is in time; so long the stop profile"
        " is watched"),
    (8, "a servo reboots"): (80, "on a line a servo that boots is mute: it is missed as in row 1, by the third answer"),
    (8, "a servo's watchdog trips"): (320, "not judged for 0.2 s after a state was entered (servo_timeout), STOPPING and"
        " then PSTOP"),
    (8, "the driver lets go"): (360, "the motors are off from the onset on; the cause stands for 0.3 s before it counts"
        " (let_go)"),
    (9, "the servo port is unplugged"): (40, LOOKS),
    (13, "the Alert alone"): (40, "0 is of a good read, which must not fail: nobody is missed; the stop is row 7's"),
    (13, "an error byte alone"): (40, "0 is of a good read, which must not fail: nobody is missed; the stop is row 7's"),
    (16, "IMU's acceleration at its end"): (40, LOOKS),
    (16, "IMU's pitch beyond any pitch"): (40, LOOKS),
    (16, "IMU's bits flipped"): (80, "garbled samples fail their checksum: they are silence, row 15"),
    (16, "IMU biased by 0.45 rad"): (460, "no reading is out of range: the gap to the tracker's attitude must stand for"
        " 0.3 s (attitude),"
        " and the IMU's filter takes the last 0.15 rad of the bias by and by"),
    (17, "tracker takes the mirror image"): (360, "no picture is frozen: the gap to the IMU's attitude must stand for 0.3"
        " s (attitude)"),
    (18, "tracker loses the robot"): (1700, POSES),
    (18, "no frame"): (140, "late is a frame that has not come for three of its periods and 20 ms (drivers/camera.py); " + LOOKS),
    (20, "tracker unplugged"): (1700, POSES),
    (20, "its process dead"): (400, "nobody says that it is gone: its process is missed after 0.3 s (nodes/guard.py, UNSEEN_NS)"),
    (22, "the machine is suspended"): (560, "500 ms of it are the sleep itself; the first cycle after it judges"),
    (22, "suspended, and a permit waits for who wakes"): (560, "500 ms of it are the sleep itself; the first cycle after"
        " it judges"),
    (22, "suspended, and no guard any more"): (4500, "no time is judged; so long the stop profile is watched"),
    (23, "actions 80 ms late"): (120, STALE),
    (23, "the reset's actions late"): (1040, "a reset has its first second (reset_silent); no late action is executed,"
        " which is checked"),
    (25, "actions in the wrong order"): (120, REFUSED + "row 23 holds the robot"),
    (26, "no actions"): (120, STALE),
    (35, "the guard dozes for 100 ms"): (140, "the gate shuts itself at 60 ms, in row 35's time; it is the guard that"
        " says HOLD, and it is"
        " away for 100 ms"),
    (38, "the console is silent"): (540, "the console is silent at 500 ms; " + LOOKS),
    (40, "the manager stands still"): (5040, "no motion rests on the manager: it is missed after 5 s (nodes/guard.py, GONE_NS)"),
    (49, "a joint runs away"): (220, "the error counts from a quarter of the lead on (nodes/motion.py), then for the"
        " row's 100 ms"),
    (49, "a motor turns the wrong way round"): (220, "the error counts from a quarter of the lead on, then for the row's 100 ms"),
    (51, "actions are no numbers"): (80, REFUSED + "the second in a row stops the robot"),
    (51, "actions are infinite"): (80, REFUSED + "the second in a row stops the robot"),
    (51, "an action of seven numbers"): (120, REFUSED + "row 23 holds the robot"),
    (51, "an action of the wrong size"): (120, REFUSED + "row 23 holds the robot"),
    (52, "actions out of range"): (420, REFUSED + "a fifth of a second's are clamped, not before RUN is 1 s old"
        " (clamped), which is warned of"),
    (52, "actions of 1000 rad"): (80, REFUSED + "the second in a row stops the robot"),
    (54, "actions swing from end to end"): (1200, "more than 8 reversals in the row's second must stand for 0.2 s (oscillation)"),
    (58, "tilted by 0.9 rad"): (360, "D'Kitty's file asks that a tilt stand for 0.3 s (tilt_s), not 0.1"),
    (58, "falling"): (160, "falling is 0.1 s of weightlessness, not 0.06 (free_fall): who bows fast is as light for so long"),
    (59, "a joint is blocked"): (2200, "legs are judged after 2 s (stalled): the driver has eased the joint, and a heavy"
        " robot strains"
        " where it stands; an arm in 580 ms"),
    (59, "a hand is caught"): (680, CAUGHT),
    (59, "a hand is caught, and is pressed less"): (680, CAUGHT),
    (60, "the arm sinks out of its box"): (720, "the onset is the sinking, at 1 rad/s, from inside the box; 20 mm beyond"
        " it must stand for"
        " 0.03 s (workspace)"),
    (63, "a servo that does not obey the stop"): (9000, CONFIRM),
    (63, "a servo that does not obey, and all are told"): (9000, CONFIRM),
}  # fmt: skip
