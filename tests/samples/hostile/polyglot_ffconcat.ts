ffconcat version 1.0
file '@CANARY_FILE@'
file '@CANARY@/in_concat.ts'
