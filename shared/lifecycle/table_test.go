package lifecycle

// pairs is the whole machine: what every event does in every state. The outcome is
// the state and epoch after it, then what else changed, then the actions in order.
const pairs = `
requested     × claim             → starting 1: emit room.starting, start 1, tell
requested     × started           → refused impossible
requested     × start_failed      → refused impossible
requested     × start_failed/no   → refused impossible
requested     × start_failed/move → refused impossible
requested     × assigned          → refused claimed
requested     × task_seen         → refused impossible
requested     × task_stopping     → refused impossible
requested     × task_stopped      → refused impossible
requested     × task_stopped/0    → refused impossible
requested     × task_stopped/none → refused impossible
requested     × register          → refused wrong_epoch
requested     × heartbeat         → refused wrong_epoch
requested     × join              → refused not_live
requested     × ending            → refused wrong_epoch
requested     × ending/behind     → refused wrong_epoch
requested     × ending/final      → refused wrong_epoch
requested     × ending/terminated → refused wrong_epoch
requested     × delete            → ended 0 because deleted: emit room.ended, tell
requested     × extend            → requested 0 until 7200 s
requested     × due               → starting 1: emit room.starting, start 1, tell

starting      × claim             → refused claimed
starting      × started           → starting 1
starting      × start_failed      → starting 1
starting      × start_failed/no   → starting 1: tell
starting      × start_failed/move → starting 1: tell, start 1
starting      × assigned          → starting 1: tell
starting      × task_seen         → starting 1: tell
starting      × task_stopping     → starting 1
starting      × task_stopped      → starting 2: emit room.starting, start 2, tell
starting      × task_stopped/0    → starting 2: emit room.starting, start 2, tell
starting      × task_stopped/none → failed 1 because start_timeout: emit room.failed, tell
starting      × register          → live 1 link-b: emit room.live, tell
starting      × heartbeat         → refused not_registered
starting      × join              → refused not_live
starting      × ending            → refused not_registered
starting      × ending/behind     → refused not_registered
starting      × ending/final      → refused not_registered
starting      × ending/terminated → refused not_registered
starting      × delete            → draining 1 because deleted: tell
starting      × extend            → starting 1 until 7200 s
starting      × due               → starting 1: start 1

queued        × claim             → refused claimed
queued        × started           → starting 1: tell
queued        × start_failed      → starting 1
queued        × start_failed/no   → starting 1
queued        × start_failed/move → starting 1
queued        × assigned          → refused claimed
queued        × task_seen         → starting 1: tell
queued        × task_stopping     → starting 1: tell
queued        × task_stopped      → starting 2: emit room.starting, start 2, tell
queued        × task_stopped/0    → starting 2: emit room.starting, start 2, tell
queued        × task_stopped/none → failed 1 because no_capacity: emit room.failed, tell
queued        × register          → live 1 link-b: emit room.live, tell
queued        × heartbeat         → refused not_registered
queued        × join              → refused not_live
queued        × ending            → refused not_registered
queued        × ending/behind     → refused not_registered
queued        × ending/final      → refused not_registered
queued        × ending/terminated → refused not_registered
queued        × delete            → draining 1 because deleted: tell
queued        × extend            → starting 1 until 7200 s
queued        × due               → starting 1: start 1

starting+task × claim             → refused claimed
starting+task × started           → starting 1
starting+task × start_failed      → starting 1
starting+task × start_failed/no   → starting 1
starting+task × start_failed/move → starting 1
starting+task × assigned          → refused claimed
starting+task × task_seen         → starting 1: tell
starting+task × task_stopping     → starting 1
starting+task × task_stopped      → starting 2: emit room.starting, start 2, tell
starting+task × task_stopped/0    → starting 2: emit room.starting, start 2, tell
starting+task × task_stopped/none → starting 1
starting+task × register          → live 1 link-b: emit room.live, tell
starting+task × heartbeat         → refused not_registered
starting+task × join              → refused not_live
starting+task × ending            → refused not_registered
starting+task × ending/behind     → refused not_registered
starting+task × ending/final      → refused not_registered
starting+task × ending/terminated → refused not_registered
starting+task × delete            → draining 1 because deleted: tell, stop arn:task/a
starting+task × extend            → starting 1 until 7200 s
starting+task × due               → starting 1: look arn:task/a

live          × claim             → refused claimed
live          × started           → live 1
live          × start_failed      → live 1
live          × start_failed/no   → live 1
live          × start_failed/move → live 1
live          × assigned          → refused claimed
live          × task_seen         → live 1
live          × task_stopping     → starting 2 handing arn:task/a: emit room.starting, start 2, tell
live          × task_stopped      → starting 2: emit room.starting, start 2, tell
live          × task_stopped/0    → ended 1 because task_exited: emit room.ended, tell
live          × task_stopped/none → live 1
live          × register          → live 1 link-b
live          × heartbeat         → live 1
live          × join              → live 1 joined
live          × ending            → draining 1 because empty: tell
live          × ending/behind     → live 1: keep
live          × ending/final      → draining 1 because max_duration: tell
live          × ending/terminated → starting 2 handing arn:task/a: emit room.starting, tell
live          × delete            → draining 1 because deleted: tell, end link-a
live          × extend            → live 1 until 7200 s
live          × due               → live 1

moving        × claim             → refused claimed
moving        × started           → starting 2 handing arn:task/a
moving        × start_failed      → starting 2 handing arn:task/a
moving        × start_failed/no   → starting 2 handing arn:task/a
moving        × start_failed/move → starting 2 handing arn:task/a
moving        × assigned          → refused claimed
moving        × task_seen         → starting 2 handing arn:task/a
moving        × task_stopping     → starting 2 handing arn:task/a
moving        × task_stopped      → starting 2
moving        × task_stopped/0    → starting 2
moving        × task_stopped/none → starting 2 handing arn:task/a
moving        × register          → starting 2 handing arn:task/a
moving        × heartbeat         → starting 2 handing arn:task/a
moving        × join              → refused not_live
moving        × ending            → starting 2 handing arn:task/a
moving        × ending/behind     → starting 2 handing arn:task/a
moving        × ending/final      → starting 2 handing arn:task/a
moving        × ending/terminated → starting 2 handing arn:task/a
moving        × delete            → draining 2 handing arn:task/a because deleted: tell, end link-a
moving        × extend            → starting 2 handing arn:task/a until 7200 s
moving        × due               → starting 2 handing arn:task/a: start 2

moved         × claim             → refused claimed
moved         × started           → live 2 handing arn:task/a
moved         × start_failed      → live 2 handing arn:task/a
moved         × start_failed/no   → live 2 handing arn:task/a
moved         × start_failed/move → live 2 handing arn:task/a
moved         × assigned          → refused claimed
moved         × task_seen         → live 2 handing arn:task/a
moved         × task_stopping     → live 2 handing arn:task/a
moved         × task_stopped      → live 2
moved         × task_stopped/0    → live 2
moved         × task_stopped/none → live 2 handing arn:task/a
moved         × register          → live 2 handing arn:task/a
moved         × heartbeat         → live 2 handing arn:task/a
moved         × join              → live 2 handing arn:task/a joined
moved         × ending            → live 2 handing arn:task/a
moved         × ending/behind     → live 2 handing arn:task/a
moved         × ending/final      → live 2 handing arn:task/a
moved         × ending/terminated → live 2 handing arn:task/a
moved         × delete            → draining 2 handing arn:task/a because deleted: tell, end link-a, end link-c
moved         × extend            → live 2 handing arn:task/a until 7200 s
moved         × due               → live 2 handing arn:task/a

leaving       × claim             → refused ended
leaving       × started           → draining 2 handing arn:task/a
leaving       × start_failed      → draining 2 handing arn:task/a
leaving       × start_failed/no   → draining 2 handing arn:task/a
leaving       × start_failed/move → draining 2 handing arn:task/a
leaving       × assigned          → refused ended
leaving       × task_seen         → draining 2 handing arn:task/a
leaving       × task_stopping     → draining 2 handing arn:task/a
leaving       × task_stopped      → draining 2
leaving       × task_stopped/0    → draining 2
leaving       × task_stopped/none → draining 2 handing arn:task/a
leaving       × register          → draining 2 handing arn:task/a: end link-b
leaving       × heartbeat         → draining 2 handing arn:task/a: end link-a
leaving       × join              → refused ended
leaving       × ending            → draining 2 handing arn:task/a
leaving       × ending/behind     → draining 2 handing arn:task/a
leaving       × ending/final      → draining 2 handing arn:task/a
leaving       × ending/terminated → draining 2 handing arn:task/a
leaving       × delete            → draining 2 handing arn:task/a
leaving       × extend            → refused ended
leaving       × due               → draining 2 handing arn:task/a: end link-c, look arn:task/b

draining      × claim             → refused ended
draining      × started           → draining 1
draining      × start_failed      → draining 1
draining      × start_failed/no   → draining 1
draining      × start_failed/move → draining 1
draining      × assigned          → refused ended
draining      × task_seen         → draining 1
draining      × task_stopping     → draining 1
draining      × task_stopped      → ended 1: emit room.ended, tell
draining      × task_stopped/0    → ended 1: emit room.ended, tell
draining      × task_stopped/none → draining 1
draining      × register          → draining 1 link-b: end link-b
draining      × heartbeat         → draining 1: end link-a
draining      × join              → refused ended
draining      × ending            → draining 1
draining      × ending/behind     → draining 1
draining      × ending/final      → draining 1
draining      × ending/terminated → draining 1
draining      × delete            → draining 1
draining      × extend            → refused ended
draining      × due               → draining 1: end link-a, look arn:task/a

draining-task × claim             → refused ended
draining-task × started           → draining 1: stop arn:task/a
draining-task × start_failed      → draining 1
draining-task × start_failed/no   → draining 1
draining-task × start_failed/move → draining 1
draining-task × assigned          → refused ended
draining-task × task_seen         → draining 1: stop arn:task/a
draining-task × task_stopping     → draining 1: stop arn:task/a
draining-task × task_stopped      → ended 1: emit room.ended, tell
draining-task × task_stopped/0    → ended 1: emit room.ended, tell
draining-task × task_stopped/none → ended 1: emit room.ended, tell
draining-task × register          → refused ended
draining-task × heartbeat         → draining 1
draining-task × join              → refused ended
draining-task × ending            → draining 1
draining-task × ending/behind     → draining 1
draining-task × ending/final      → draining 1
draining-task × ending/terminated → draining 1
draining-task × delete            → draining 1
draining-task × extend            → refused ended
draining-task × due               → draining 1: find 1

ended         × claim             → refused ended
ended         × started           → ended 1
ended         × start_failed      → ended 1
ended         × start_failed/no   → ended 1
ended         × start_failed/move → ended 1
ended         × assigned          → refused ended
ended         × task_seen         → ended 1
ended         × task_stopping     → ended 1
ended         × task_stopped      → ended 1
ended         × task_stopped/0    → ended 1
ended         × task_stopped/none → ended 1
ended         × register          → refused ended
ended         × heartbeat         → refused ended
ended         × join              → refused ended
ended         × ending            → ended 1
ended         × ending/behind     → ended 1
ended         × ending/final      → ended 1
ended         × ending/terminated → ended 1
ended         × delete            → ended 1
ended         × extend            → refused ended
ended         × due               → ended 1

failed        × claim             → refused ended
failed        × started           → failed 1: stop arn:task/a
failed        × start_failed      → failed 1
failed        × start_failed/no   → failed 1
failed        × start_failed/move → failed 1
failed        × assigned          → refused ended
failed        × task_seen         → failed 1: stop arn:task/a
failed        × task_stopping     → failed 1: stop arn:task/a
failed        × task_stopped      → failed 1
failed        × task_stopped/0    → failed 1
failed        × task_stopped/none → failed 1
failed        × register          → refused ended
failed        × heartbeat         → refused ended
failed        × join              → refused ended
failed        × ending            → failed 1
failed        × ending/behind     → failed 1
failed        × ending/final      → failed 1
failed        × ending/terminated → failed 1
failed        × delete            → failed 1
failed        × extend            → refused ended
failed        × due               → failed 1
`
