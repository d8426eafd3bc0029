#include "check.h"

int main() { return recsys_fast::test::run_all(); }
