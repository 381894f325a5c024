// The SQL texts for accounts; see sqlite_budgets.h.
#pragma once

namespace stepwell::detail::sql {

inline constexpr const char* kBudgetFind =
    "SELECT name, cap_usd, cap_tokens, spent_usd, spent_tokens, reserved_usd, reserved_tokens, doubt_usd, doubt_tokens,"
    " call_count, odd_count, waiting_count, is_closed, run, at FROM budgets WHERE name = ?1";
// ?2 and ?3: from where to where names below it lie.
inline constexpr const char* kBudgetList =
    "SELECT name, cap_usd, cap_tokens, spent_usd, spent_tokens, reserved_usd, reserved_tokens, doubt_usd, doubt_tokens,"
    " call_count, odd_count, waiting_count, is_closed, run, at FROM budgets"
    " WHERE ?1 = '' OR name = ?1 OR (name > ?2 AND name < ?3) ORDER BY name LIMIT ?4";
inline constexpr const char* kBudgetReplace =
    "REPLACE INTO budgets(name, cap_usd, cap_tokens, spent_usd, spent_tokens, reserved_usd, reserved_tokens, doubt_usd,"
    " doubt_tokens, call_count, odd_count, waiting_count, is_closed, run, at)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
inline constexpr const char* kBudgetDrop = "DELETE FROM budgets WHERE run = ?1";
inline constexpr const char* kBudgetNoteInsert = "INSERT INTO budget_notes(budget, at, note) VALUES(?1, ?2, ?3)";
inline constexpr const char* kBudgetNotes =
    "SELECT note FROM (SELECT id, note FROM budget_notes WHERE budget = ?1 ORDER BY id DESC LIMIT ?2) ORDER BY id";
inline constexpr const char* kBudgetsChanged = "SELECT DISTINCT budget FROM budget_notes ORDER BY budget";
inline constexpr const char* kBudgetWaitCount = "SELECT count(*) FROM budget_waits";
inline constexpr const char* kBudgetWaitReplace =
    "REPLACE INTO budget_waits(run, step, budget, turn, wanted_usd, wanted_tokens, is_woken)"
    " VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
inline constexpr const char* kBudgetWaitDelete =
    "DELETE FROM budget_waits WHERE run = ?1 AND (?2 = '' OR step = ?2)"
    " RETURNING step, budget, turn, wanted_usd, wanted_tokens, is_woken";
inline constexpr const char* kBudgetWaitLine =
    "SELECT run, step, turn, wanted_usd, wanted_tokens FROM budget_waits WHERE budget = ?1 AND is_woken = 0"
    " ORDER BY turn, run, step LIMIT ?2";
inline constexpr const char* kBudgetWaitPromised =
    "SELECT coalesce(sum(wanted_usd), 0), coalesce(sum(wanted_tokens), 0) FROM budget_waits"
    " WHERE budget = ?1 AND is_woken = 1";
inline constexpr const char* kEventKind = "SELECT kind FROM events WHERE run = ?1 AND seq = ?2";

}  // namespace stepwell::detail::sql
