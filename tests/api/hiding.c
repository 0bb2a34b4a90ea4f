/* Needs the library of nothing.c. */
int encdiff_test_nothing(void);
int encdiff_test_hiding(void);
int encdiff_test_hiding(void) { return encdiff_test_nothing(); }
