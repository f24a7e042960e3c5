#!/bin/sh
cat @CANARY_FILE@
