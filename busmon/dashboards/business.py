"""Business metrics: what do the users do, and what do they like?"""

from busmon.dashboards import links
from busmon.dashboards.board import Board
from busmon.dashboards.panels import THIRD, Aim, Lines, Number, Ranking
from busmon.dashboards.promql import (
    FLEET,
    increase,
    largest,
    per_minute,
    quantile_within,
    recorded,
    share,
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
    about="Votes, achievements, points, users and content: what do the users do, and what do they like?",
    rows={
        "At a glance": (
            Number(
                "Users online",
                Aim("Connected to any front end now. Aim for yesterday's at the same time of day."),
                _ONLINE,
                "locale",
                decimals=0,
            ),
            Number(
                "Votes a minute",
                Aim("Aim for a course that follows the users online."),
                per_minute(_VOTES),
                "locale",
                decimals=0,
            ),
            Number(
                "Upvotes",
                Aim("Upvotes over all votes. Aim for more: a fall is content that people don't like."),
                share(recorded(_VOTES, "", f'{FLEET}, type="upvote"'), recorded(_VOTES)),
                "percentunit",
                decimals=1,
            ),
            Number(
                "Votes pending",
                Aim("Open and not yet decided. Aim for a level that stays."),
                largest("pending_votes_count", "job"),
                "locale",
                decimals=0,
            ),
            Number(
                "Achievements",
                Aim("Unlocked in this time range. Aim for some: none is a game that nobody plays."),
                increase("achievements_unlocked_total"),
                "locale",
                decimals=0,
            ),
            Number(
                "Session, p50",
                Aim("Half of the sessions that ended in this time range were no longer. Aim for more."),
                quantile_within(0.5, _SESSION),
                "s",
                decimals=0,
            ),
        ),
        "Votes": (
            Lines(
                "Votes a minute",
                Aim("By type. Aim for a course that follows the users online: a spike of one type may be a bot."),
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
                "Votes pending",
                Aim("Aim for a level that stays: where it rises, votes come in faster than they are decided."),
                {"pending": largest("pending_votes_count", "job")},
                "short",
                span=THIRD,
            ),
        ),
        "Achievements": (
            Lines(
                "Achievements unlocked an hour",
                Aim("By category, the 8 most frequent. Aim for all of them: one without is too hard, or forgotten."),
                {"{{category}}": top(8, f"3600 * {recorded(_ACHIEVEMENTS, 'category')}", _ACHIEVEMENTS, "category")},
                "unlocked/h",
                stacked=True,
            ),
            Lines(
                "Progress to the next achievement",
                Aim("Users' mean progress by category. Aim for lines that rise and fall: a flat one is stuck."),
                {"{{category}}": largest("achievement_progress_ratio", "category")},
                "percentunit",
                top=1,
            ),
        ),
        "Points": (
            Lines(
                "Points earned and spent a minute",
                Aim("What was spent is below zero. Aim for as much below as above: too much earned devalues points."),
                {
                    "earned: {{source}}": per_minute(_EARNED, "source"),
                    "spent: {{purpose}}": f"-{per_minute(_SPENT, 'purpose')}",
                },
                "points/min",
                span=THIRD,
            ),
            Lines(
                "Points added to circulation an hour",
                Aim("Earned less spent. Aim for a little above zero."),
                {"net": f"3600 * ({recorded(_EARNED)} - {recorded(_SPENT)})"},
                "short",
                span=THIRD,
            ),
            Ranking(
                "User ranking",
                Aim(
                    "Points at the ranks 1 to 10, which are few where users are many. Aim for steps: no rank far "
                    "above all."
                ),
                {"#{{rank}}": f"sort_desc({largest('user_ranking_points', 'rank')})"},
                "short",
                span=THIRD,
            ),
        ),
        "Users and content": (
            Lines(
                "Users online",
                Aim("Connected to any front end. Aim for yesterday's at the same time of day.", more=links.SYSTEM),
                {"online": _ONLINE},
                "short",
                span=THIRD,
            ),
            Lines(
                "Session duration",
                Aim("Half of the sessions of each hour, and 95 % of them, were no longer. Aim for more."),
                {f"p{percent}": quantile_within(percent / 100, _SESSION, window="1h") for percent in (50, 95)},
                "s",
                span=THIRD,
            ),
            Ranking(
                "Popular tasks and trending topics",
                Aim("Scores of the five most popular of each kind. Aim for a long tail: one above all is a fashion."),
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
