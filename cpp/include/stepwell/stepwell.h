// Start here: the public headers of the Stepwell core, in reading order.
//
//   status.h    Status, Result, error codes        how failures travel
//   types.h     RunId, Payload, RetryPolicy        the words of the design
//   budget.h    Cost, BudgetRow, Spend             what calls may cost
//   history.h   Event, RunRow                      what is recorded
//   engine.h    RunMachine                         every decision about one run, pure
//   loop.h      Loop, Poller                       one thread and its clock
//   queue.h     QueueLimits, Collapse, Document    what stands beside runs
//   retention.h RetentionPolicy                    what is let go of
//   transition.h  Transition, NewRun               what is kept at once
//   store.h     Store                              where it is kept
//   store_file.h StoreFile                         its upkeep, while no engine has it
//   egress.h    EgressPolicy                       where calls may go
//   http.h      HttpTransport                      one request, one outcome
//   call.h      CallSpec, JudgeRule                a request that a run waits for
//   test_world.h  TestWorld, TestView              a movable clock and a failing store, for users' tests
//   runtime.h   Runtime                            the door that hosts come in by
#pragma once

#include "stepwell/budget.h"
#include "stepwell/call.h"
#include "stepwell/egress.h"
#include "stepwell/engine.h"
#include "stepwell/function.h"
#include "stepwell/history.h"
#include "stepwell/http.h"
#include "stepwell/loop.h"
#include "stepwell/queue.h"
#include "stepwell/retention.h"
#include "stepwell/runtime.h"
#include "stepwell/status.h"
#include "stepwell/store.h"
#include "stepwell/store_file.h"
#include "stepwell/test_world.h"
#include "stepwell/transition.h"
#include "stepwell/types.h"
