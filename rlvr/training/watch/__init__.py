"""Watching a run: a line for each step, alarms that warn, lower the learning rate or stop, and where metrics go.

`alarms` is the rules alone, without torch; `callbacks` ties them to a trainer; `trackers` is what `report_to` may name.
"""
