"""Business metrics: what do the users do, and what do they like?"""

from busmon.dashboards.parts import links
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.panels import THIRD, Aim, Lines, Number, Ranking
from busmon.dashboards.parts.promql import (
    FLEET,
    increase,
    largest,
    per_minute,
    quantile_within,
    share,
    sum_recorded,
    top,
    total,
)

_VOTES, _ACHIEVEMENTS = "type:votes_cast:rate5m", "category:achievements_unlocked:rate5m"
_EARNED, _SPENT = "source:points_earned:rate5m", "purpose:points_spent:rate5m"
_ONLINE = total("user_online_count")
_SESSION = "session_duration_seconds"

BOARD = Board(
    uid="busmon-business",
    title="Business metrics",
    about="Votes, achievements, points, users and content: what do users do, and what do they like?",
    rows={
        "At a glance": (
            Number(
                "Users online",
                Aim("Users connected to any front end. Aim for yesterday's number at the same time of day."),
                _ONLINE,
                "locale",
                decimals=0,
            ),
            Number(
                "Votes per minute",
                Aim("Aim for a line that follows the users online."),
                per_minute(_VOTES),
                "locale",
                decimals=0,
            ),
            Number(
                "Upvotes",
                Aim("Upvotes divided by all votes. Aim for more: a fall means that people don't like the content."),
                share(sum_recorded(_VOTES, "", f'{FLEET}, type="upvote"'), sum_recorded(_VOTES)),
                "percentunit",
                decimals=1,
            ),
            Number(
                "Pending votes",
                Aim("Open and undecided. Aim for a stable number."),
                largest("pending_votes_count", "job"),
                "locale",
                decimals=0,
            ),
            Number(
                "Achievements",
                Aim("Unlocked in this time range. Aim for some: none means that nobody plays."),
                increase("achievements_unlocked_total"),
                "locale",
                decimals=0,
            ),
            Number(
                "Session, p50",
                Aim("Half of the sessions that ended in this time range were at most this long. Aim for more."),
                quantile_within(0.5, _SESSION),
                "s",
                decimals=0,
            ),
        ),
        "Votes": (
            Lines(
                "Votes per minute",
                Aim("By type. Aim for lines that follow the users online: a spike of one type may be a bot."),
                {"{{type}}": per_minute(_VOTES, "type")},
                "votes/min",
                stacked=True,
                span=THIRD,
            ),
            Ranking(
                "Vote distribution",
                Aim("Share of each type in this time range. Aim for more upvotes than downvotes."),
                {
                    "{{type}}": f"sort_desc({increase('votes_cast_total', 'type')} "
                    f"/ on () group_left () {increase('votes_cast_total')})"
                },
                "percentunit",
                span=THIRD,
                top=1,
            ),
            Lines(
                "Pending votes",
                Aim("Aim for a stable line: if it rises, votes arrive faster than they are decided."),
                {"pending": largest("pending_votes_count", "job")},
                "short",
                span=THIRD,
            ),
        ),
        "Achievements": (
            Lines(
                "Achievements unlocked per hour",
                Aim(
                    "By category, the 8 most frequent. Aim for all categories: a missing one is too hard, or forgotten."
                ),
                {
                    "{{category}}": top(
                        8, f"3600 * {sum_recorded(_ACHIEVEMENTS, 'category')}", _ACHIEVEMENTS, "category"
                    )
                },
                "unlocked/h",
                stacked=True,
            ),
            Lines(
                "Progress to the next achievement",
                Aim("Users' mean progress by category. Aim for lines that rise and fall: a flat line is stuck."),
                {"{{category}}": largest("achievement_progress_ratio", "category")},
                "percentunit",
                top=1,
            ),
        ),
        "Points": (
            Lines(
                "Points earned and spent per minute",
                Aim("Spent points are below zero. Aim for as many spent as earned: too many earned devalue points."),
                {
                    "earned: {{source}}": per_minute(_EARNED, "source"),
                    "spent: {{purpose}}": f"-{per_minute(_SPENT, 'purpose')}",
                },
                "points/min",
                span=THIRD,
            ),
            Lines(
                "Points added to circulation per hour",
                Aim("Earned minus spent. Aim for a little above zero."),
                {"net": f"3600 * ({sum_recorded(_EARNED)} - {sum_recorded(_SPENT)})"},
                "short",
                span=THIRD,
            ),
            Ranking(
                "User ranking",
                Aim("Points at the ranks 1 to 10. Aim for even steps: no rank far above all others."),
                {"#{{rank}}": f"sort_desc({largest('user_ranking_points', 'rank')})"},
                "short",
                span=THIRD,
            ),
        ),
        "Users and content": (
            Lines(
                "Users online",
                Aim(
                    "Users connected to any front end. Aim for yesterday's number at the same time of day.",
                    more=links.SYSTEM,
                ),
                {"online": _ONLINE},
                "short",
                span=THIRD,
            ),
            Lines(
                "Session duration",
                Aim("Half of each hour's sessions, and 95 % of them, were at most this long. Aim for more."),
                {f"p{percent}": quantile_within(percent / 100, _SESSION, window="1h") for percent in (50, 95)},
                "s",
                span=THIRD,
            ),
            Ranking(
                "Popular tasks and trending topics",
                Aim("Scores of the five most popular of each kind. Aim for a long tail: a single peak is a fad."),
                {
                    "{{kind}} #{{rank}}": "sort_desc(max by (kind, rank) "
                    f'(content_popularity_score{{{FLEET}, rank=~"[1-5]"}}))'
                },
                "short",
                span=THIRD,
            ),
        ),
    },
)
